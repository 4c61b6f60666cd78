"""The users of Redis that config/README.md tells an admin to make."""

RULE_OF_PRODUCERS = (
    "resetkeys resetchannels -@all +evalsha +time +client|setinfo ~skycap:{*}: "
    "(-@all +exists +hget +hset +hdel ~skycap:{*}:job:*) "
    "(-@all +hget +hmget +hincrby ~skycap:{*}:meta) "
    "(-@all +hincrby +pexpire ~skycap:{*}:minute:*) "
    "(-@all +zadd +zcard +zrem ~skycap:{*}:ready ~skycap:{*}:later ~skycap:{*}:done ~skycap:{*}:wait:*) "
    "(-@all +get +set ~skycap:{*}:unique:* ~skycap:{*}:request:*) "
    "(-@all +llen +lpush ~skycap:{*}:wake) "
    "(-@all +xadd ~skycap:{*}:events)"
)
"""Who may enqueue, and nothing else that Redis can keep apart from it."""

RULE_OF_DAEMONS = (
    "resetkeys ~skycap:* resetchannels -@all +@read +@write +@connection -@dangerous "
    "+eval +evalsha +script|load +time +info +cluster|slots"
)
"""skycap's own."""
