// Package arch holds nothing but a test: the table of who may import whom in this repository, compared with what the
// packages do import.
package arch
