"""``python -m rocscope``."""

from rocscope.cli import main

main()
