"""placeholder of the lead's: see api.md"""
