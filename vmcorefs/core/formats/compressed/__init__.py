"""The layouts of compressed files: where their parts begin, which need nothing before them."""
