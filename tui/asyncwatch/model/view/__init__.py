"""What a person looks at: filter, order, marks, groups. Pure."""
