"""x"""
def card(*a): return "x"
