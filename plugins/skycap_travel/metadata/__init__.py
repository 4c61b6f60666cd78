"""What a booking's free-form metaData says: anything may be missing, and of any shape; nothing is made up."""
