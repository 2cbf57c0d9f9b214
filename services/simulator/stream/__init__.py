"""Market data out: what one client has subscribed to, as the bodies of W and X, of S or of i, without their header."""
