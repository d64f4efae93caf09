"""The reproduction of arXiv 1909.01440: experiments, findings, figures and the page."""
