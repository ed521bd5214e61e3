"""The jobs beside a study, one module each: what is asked, its run, its result, and its page."""
