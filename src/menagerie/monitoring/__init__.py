"""Watching a champion: has the data moved, what does it cost, what is to be done.

windows      what of the journal is compared
drift        the window against the reference: one decision with a stated false-alarm rate
harm         accuracy without labels;  hindsight  what labels said of it later
label_shift  the mix of classes without labels
accuracy     from the labels there are, corrected for how they were asked for
queue        which input to label next
situation, policy, approval   what is known, what is decided, who let it through
guard, aftermath   whether a promotion was a mistake
report, report_page, report_pictures, history   the page a person looks at; `report` alone imports evidently
"""
