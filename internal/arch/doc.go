// Package arch holds nothing but tests of the repository itself: the table of who may import whom, compared with what the
// packages do import, and what documents and compose.yaml say, compared with what is there.
package arch
