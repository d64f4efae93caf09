"""One file per figure: the result of an analysis goes in, a matplotlib Figure comes out."""
