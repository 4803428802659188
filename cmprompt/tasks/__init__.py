"""What the commands do between reading and writing, one file each, for library and shell alike."""
