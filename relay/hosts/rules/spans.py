"""How long everything about a lease takes, in seconds, and why.

What must hold: a former owner is silent before the next one sends. Both count on clocks of their own, from what they
did or saw themselves, so no two clocks are compared; only their speeds matter.

* The owner counts from the moment it *sent* the last renewal that was acknowledged. The store wrote it later.
* A taker counts from the moment it *saw* that renewal in the store. The store wrote it earlier.

So a taker's 16 s begin after the owner's 13 s began. The 3 s between them are a fifth of the span: the owner's clock
may run a fifth slower than the taker's before both could send. Real clocks differ by less than a thousandth.
"""

RENEW_EVERY_S = 3.0  # the heart beats and the leases are renewed: five tries before the lease ends
LEASE_S = 15.0  # what a lease is worth, as shown to people
CLAIM_FOR_S = 9.0  # from the sending of the last acknowledged renewal: three lost renewals stop the claims
ABORT_AFTER_S = 13.0  # from there too: what is still on the wire is cut off
TAKE_AFTER_S = LEASE_S + 1.0  # a lease that was seen unchanged this long may be taken

LIVE_FOR_S = 3 * RENEW_EVERY_S  # a host whose heart was not heard for longer is not counted on
RANK_S = 1.0  # the second in line for a lease waits this long, the third twice as long
STEADY_S = 30.0  # a host must have been live this long before healthy platforms move to it
MOVE_EVERY_S = 5.0  # between two moves of healthy platforms

FLAPS = 2  # leases lost by expiry so often ...
FLAP_WINDOW_S = 600.0  # ... within this time ...
REST_S = 300.0  # ... make a host only accept for this long; an operator's release as well
