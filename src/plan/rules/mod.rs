//! The rule table. One danger a file; a rule is its file and one word here.
