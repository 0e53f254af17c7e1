"""What documents of an account say of who is on call, when nobody is, and who would be woken. Pure: values in, values out."""
