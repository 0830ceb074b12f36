"""Weights of the authors' public code (github.com/1Konny/idgan, branches master and vgan), as an export."""
