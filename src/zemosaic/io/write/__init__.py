"""Files written: mosaics, tiles, WCS, pictures."""
