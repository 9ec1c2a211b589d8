"""The making of audiox-pocket: synthesised data, training and evaluation."""
