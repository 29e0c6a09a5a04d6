// Package catalog remembers which names point at which content: tags, the links between repositories and digests, and
// the last known lists of tags and referrers. Content itself is the business of package cache. Names are small and worth
// keeping; content is large and can be evicted.
//
// # Memory first
//
// Memory is what the catalog knows, and the bbolt file catalog.db is its durable copy. Open reads the whole file once;
// after that Tag, Tags, Link and Repositories never touch the disk, and Tag and Link do not allocate. Only the bodies of
// lists stay on disk, because they are long and asked for only while an upstream is down.
//
// A change is made in memory at once, and what was changed (not the new value) is noted. One goroutine, the committer,
// collects everything noted so far, writes its current value in one transaction and starts again: a commit takes as long
// as the disk needs and carries all changes that arrived during the one before. SetTag and DeleteTag wait for the commit
// that holds their change, the others do not. A commit that fails, on a full disk for example, loses nothing: what it
// took is noted again and goes with the next one, which comes with the next change or after flushInterval.
//
// # Size
//
// A link takes about 60 bytes of memory and 100 bytes of file; the package is made for a million of them. Links whose
// content was evicted long ago are dropped by Prune, which somebody who knows the content calls now and then. The file
// never shrinks, freed pages are used again. A repository keeps its number until it is forgotten, and nobody else gets that
// number before a restart.
//
// # Crashes and damage
//
// A killed process loses what was not waited for, at most flushInterval of touches. A file that bbolt cannot read, or
// that makes it panic, is renamed to catalog.db.damaged-<unix time>; whatever memory holds of it is written to a new one,
// and the rest is learnt again from the upstreams. This happens once an hour at most while the process runs. bbolt does
// not checksum its data, so every record holds a checksum of its own, and records that do not match are dropped one by
// one.
//
// # Locks
//
// Catalog.mu, repository.mu, lists.mu and queue.mu are never held together, nor across a system call.
package catalog
