"""The gateway as processes: put together, started, watched and stopped in order.

service      one worker, put together           running   its foreground: signals, watched files, the end
supervisor   several workers as one gateway     check     whether it would start, without starting
cores, allocator   what the machine gives       log_lines   what it says
"""
