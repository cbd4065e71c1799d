"""The gateway as processes: put together, started, watched and stopped in order.

service      one worker, put together
running      a worker in the foreground: signals, watched files, the end
supervisor   several workers as one gateway
check        whether it would start here, without starting
cores        how many workers the machine is good for
allocator    the C library's memory, tuned
log_lines    what it says
"""
