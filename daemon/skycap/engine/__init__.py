"""The queue engine: Redis holds every live job, and a few Lua scripts change its state atomically."""
