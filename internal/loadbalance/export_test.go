package loadbalance

// Murmur3 is for tests that compute tables by hand.
var Murmur3 = murmur3
