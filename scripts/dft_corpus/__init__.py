"""How ``make_dft_corpus.py`` brings density-functional codes into trouble."""
