// Package cache stores content by digest within a size limit, and lets many readers stream content that is still
// arriving. It knows no names and no HTTP: content comes in through a function that the caller gives (FillFunc), and goes
// out through Blob.
//
// Invariants, which Check verifies:
//
//   - An entry in the table means that a file of that size exists whose digest was verified when it was written. Where
//     the disk breaks that, the content is taken out of service as soon as a hit or the scrub sees it; a file that was
//     changed is read before it is served.
//   - A digest is in the table of complete content, or in that of fills in flight, or in neither. It moves from the second
//     to the first without a gap.
//   - Complete content, partial content, quarantine and reservations together never exceed the limit.
//   - Pinned content is never evicted. What is pinned is in the table and in a file, which agree whenever no pin changes.
//   - Removing content never disturbs an open reader: the file is unlinked, the descriptor lives on. Without a reader none does:
//     what the shelf keeps open is in the table.
//   - No reader of the whole content gets its last byte before the digest is verified. Pieces for other nodes are no readers in
//     this sense (Piece): who gets them verifies the whole.
//   - A fill holds room for every byte that it has, and no two of its fetches bring the same byte.
//
// What a crash leaves behind: complete files, each verified and synced before it got its name, with or without a record
// in the index (the next Open takes those in); and partial files. With the last journal of such a file the next fill of
// its digest goes on; files without one are swept by the next Open. Close leaves the same, with journals of all that has
// come.
//
// Lock order: Cache.closing before Cache.pinning and Cache.evicting, which are never held together, before journal.mu before
// Cache.names before shard.mu before fill.mu; fill.booking before Cache.evicting; all others are taken last, and alone. No lock
// but fill.booking and the first five is ever held across a system call, and a hit takes none of those.
//
// What is evicted is chosen from one word for each content, which a hit stores without a lock (Use), by a function without
// state (Coldest). A goroutine evicts before room is needed; a fill or a store evicts itself only when that came too late.
//
// DESIGN.md says why it is built this way.
package cache
