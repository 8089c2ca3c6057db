"""Controls: what a score alone does not say: how sure a system is when it is wrong, and what one input gives"""
