"""A core's report as one HTML page that needs nothing else: no network, no script, no other file.

``page`` puts it together; ``sheet`` turns what the verbs print into headings and tables, so that a
page and the terminal show the same; ``layers`` and ``graph`` draw who waits for whom, ``ring`` the
queues. Templates get plain values alone: each is cleaned and escaped where it is written out.
"""
