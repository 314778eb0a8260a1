"""Page tables: their formats, walking them, and looking an address up."""
