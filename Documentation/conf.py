# SPDX-License-Identifier: GPL-2.0
#
# How Sphinx builds these pages; from the top of the tree:
#
#	sphinx-build -W Documentation build/doc

import pathlib
import re

_conf = pathlib.Path(__file__).resolve().parent.parent / 'tools/packaging/dkms.conf'
_found = re.search(r'^PACKAGE_VERSION="([^"]*)"', _conf.read_text(), re.M)

project = 'Vireo'
author = 'the Vireo developers'
copyright = 'the Vireo developers, GPL-2.0'
version = release = _found.group(1) if _found else ''

extensions = []
source_suffix = '.rst'
master_doc = 'index'
exclude_patterns = []
language = 'en'
highlight_language = 'none'
nitpicky = True

html_theme = 'alabaster'
html_theme_options = {
    'description': 'a small hypervisor for Linux',
    'page_width': '72em',
    'sidebar_collapse': True,
}
html_show_sourcelink = False
html_copy_source = False
