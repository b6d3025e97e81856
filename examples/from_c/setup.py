"""An extension that runs downslope's networks from C and Cython: python setup.py build_ext -i"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import downslope

online = Extension("online", ["online.pyx", "loop.c"], include_dirs=[".", downslope.get_include()])
setup(name="online", ext_modules=cythonize([online], language_level=3))
