"""What a report shows of a run and nothing else needs: how alike frames see stars, how noise falls with area."""
