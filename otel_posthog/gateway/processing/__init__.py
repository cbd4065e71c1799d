"""Behind the journal: durable records become events, and a record ends when each of its events has ended.

processing   the thread that converts, and what it waits for
work         one record on its way          reading   its bytes as signals
portions     what waits for projects that take nothing
forwarding   requests that are answered only after PostHog's verdict
burial       what a lost event leaves for `dead_letters`
"""
