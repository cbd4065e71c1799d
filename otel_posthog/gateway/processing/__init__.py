"""Behind the journal: durable records become events, and a record ends when each of its events has ended.

processing   the thread that converts, and its queue
hand_out     records to their projects, and once more later
shares       what of a record is whose, and how it gets there
portions     what waits for projects that take nothing
work         one record on its way
reading      its bytes as signals
forwarding   requests that are answered only after PostHog's verdict
burial       what a lost event leaves for `dead_letters`
"""
