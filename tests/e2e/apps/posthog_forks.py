"""A service that makes its client before it forks, as a preloading server does, and uses it on both sides."""

import os
import sys

from posthog import Posthog

client = Posthog(os.environ["SHOP_POSTHOG_KEY"], host=os.environ["SHOP_POSTHOG_HOST"])
client.capture("before the fork", distinct_id="ada")
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        for count in range(3):
            client.capture(f"child {number}, {count}", distinct_id="ada")
        client.shutdown()
        os._exit(0)
    children.append(pid)
    client.capture(f"parent {number}", distinct_id="ada")
ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
client.capture("after the children", distinct_id="ada")
client.shutdown()
sys.exit(any(ended))
