"""What is learned: descriptor, ensemble, training and the ASE calculator; knows nothing of campaigns."""
