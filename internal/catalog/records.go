package catalog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"mirror/internal/oci"
)

// The file has four buckets. A number stands for the repository in all keys but those of the first; it is big-endian
// there, so that the records of one repository are neighbours. Numbers in records are little-endian.
//
//	bucket         key                  record
//	repositories   number               registry, NUL, name
//	tags           number, tag          size (8), checked at (8), length of digest (1), digest, media type
//	links          number, digest       flags (1), size (8), media type
//	lists          number, key          checked at (8), body
//
// A digest is in the short form of package oci. Times are microseconds since 1970. Every record starts with a version
// byte and ends with a CRC-32C of its key and of itself (4).
const (
	repositoriesBucket bucket = iota
	tagsBucket
	linksBucket
	listsBucket
)

const (
	recordVersion = 1
	sumSize       = crc32.Size
	// confirmedFlag is the one flag of a link.
	confirmedFlag = 1
	// listHeader is the part of a list's record before the body: version and time.
	listHeader = 1 + 8
)

// bucket stands for a bucket's name, in the order in which buckets are written and read: a repository's number is known
// before it is used.
type bucket uint8

func (b bucket) name() []byte {
	return []byte([...]string{"repositories", "tags", "links", "lists"}[b])
}

// operation writes a record, or deletes one when value is nil.
type operation struct {
	bucket bucket
	key    []byte
	value  []byte
}

func deletion(b bucket, key []byte) operation { return operation{bucket: b, key: key} }

func repositoryKey(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

func tagKey(id uint32, tag string) []byte { return append(repositoryKey(id), tag...) }

func linkKey(id uint32, d oci.Digest) []byte { return append(repositoryKey(id), d.Binary()...) }

func listKey(name listName) []byte { return append(repositoryKey(name.repository), name.key...) }

// splitKey returns a key's repository and the rest of it.
func splitKey(key []byte) (uint32, []byte, error) {
	if len(key) < 4 {
		return 0, nil, fmt.Errorf("%w: key of %d bytes", errDamaged, len(key))
	}
	return binary.BigEndian.Uint32(key), key[4:], nil
}

func putRepository(id uint32, name oci.Repository) operation {
	key := repositoryKey(id)
	record := newRecord(len(name.Registry) + 1 + len(name.Name))
	record = append(append(append(record, name.Registry...), 0), name.Name...)
	return operation{repositoriesBucket, key, seal(key, record)}
}

func putTag(id uint32, tag string, t Tag) operation {
	key, d := tagKey(id, tag), t.Descriptor.Digest.Binary()
	record := newRecord(8 + 8 + 1 + len(d) + len(t.Descriptor.MediaType))
	record = binary.LittleEndian.AppendUint64(record, uint64(t.Descriptor.Size))
	record = binary.LittleEndian.AppendUint64(record, uint64(t.CheckedAt.UnixMicro()))
	record = append(append(record, byte(len(d))), d...)
	record = append(record, t.Descriptor.MediaType...)
	return operation{tagsBucket, key, seal(key, record)}
}

func putLink(id uint32, d oci.Digest, l Link) operation {
	key := linkKey(id, d)
	record := newRecord(1 + 8 + len(l.MediaType))
	var flags byte
	if l.Confirmed {
		flags = confirmedFlag
	}
	record = binary.LittleEndian.AppendUint64(append(record, flags), uint64(l.Size))
	return operation{linksBucket, key, seal(key, append(record, l.MediaType...))}
}

func putList(name listName, l List) operation {
	key := listKey(name)
	record := binary.LittleEndian.AppendUint64(newRecord(8+len(l.Body)), uint64(l.CheckedAt.UnixMicro()))
	return operation{listsBucket, key, seal(key, append(record, l.Body...))}
}

// newRecord begins a record that has room for the payload and for the checksum.
func newRecord(payload int) []byte {
	return append(make([]byte, 0, 1+payload+sumSize), recordVersion)
}

// seal ends a record with its checksum. The key is part of it: a record under another's key is damage, too.
func seal(key, record []byte) []byte {
	return binary.LittleEndian.AppendUint32(record, checksum(key, record))
}

// unseal checks version and checksum and returns what is between them.
func unseal(key, record []byte) ([]byte, error) {
	if len(record) < 1+sumSize {
		return nil, fmt.Errorf("%w: record of %d bytes", errDamaged, len(record))
	}
	if record[0] != recordVersion {
		return nil, fmt.Errorf("%w: record of version %d, want %d", errDamaged, record[0], recordVersion)
	}
	end := len(record) - sumSize
	if got, want := checksum(key, record[:end]), binary.LittleEndian.Uint32(record[end:]); got != want {
		return nil, fmt.Errorf("%w: record has checksum %08x, want %08x", errDamaged, got, want)
	}
	return record[1:end], nil
}

func checksum(key, record []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once, by the standard library
	return crc32.Update(crc32.Checksum(key, table), table, record)
}

// The functions below return copies only: records live in the mapped file, which may go away.

func readRepository(key, record []byte) (uint32, oci.Repository, error) {
	id, rest, err := splitKey(key)
	if err != nil {
		return 0, oci.Repository{}, err
	}
	payload, err := unseal(key, record)
	if err != nil {
		return 0, oci.Repository{}, err
	}
	registry, name, ok := bytes.Cut(payload, []byte{0})
	if !ok || len(rest) > 0 {
		return 0, oci.Repository{}, fmt.Errorf("%w: repository is not a registry and a name", errDamaged)
	}
	return id, oci.Repository{Registry: string(registry), Name: string(name)}, nil
}

func readTag(key, record []byte) (uint32, string, Tag, error) {
	id, tag, err := splitKey(key)
	if err != nil {
		return 0, "", Tag{}, err
	}
	payload, err := unseal(key, record)
	if err != nil {
		return 0, "", Tag{}, err
	}
	if len(payload) < 17 || len(payload) < 17+int(payload[16]) {
		return 0, "", Tag{}, fmt.Errorf("%w: tag of %d bytes", errDamaged, len(payload))
	}
	end := 17 + int(payload[16])
	d, err := oci.DigestFromBinary(payload[17:end])
	if err != nil {
		return 0, "", Tag{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	t := Tag{CheckedAt: time.UnixMicro(int64(binary.LittleEndian.Uint64(payload[8:])))}
	t.Descriptor = oci.Descriptor{MediaType: string(payload[end:]), Digest: d, Size: int64(binary.LittleEndian.Uint64(payload))}
	return id, string(tag), t, nil
}

func readLink(key, record []byte) (uint32, oci.Digest, Link, error) {
	id, rest, err := splitKey(key)
	if err != nil {
		return 0, oci.Digest{}, Link{}, err
	}
	payload, err := unseal(key, record)
	if err != nil {
		return 0, oci.Digest{}, Link{}, err
	}
	d, err := oci.DigestFromBinary(rest)
	if err != nil {
		return 0, oci.Digest{}, Link{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(payload) < 9 || payload[0]&^confirmedFlag != 0 {
		return 0, oci.Digest{}, Link{}, fmt.Errorf("%w: link of %d bytes", errDamaged, len(payload))
	}
	size := int64(binary.LittleEndian.Uint64(payload[1:]))
	return id, d, Link{MediaType: string(payload[9:]), Size: size, Confirmed: payload[0] == confirmedFlag}, nil
}

// readListEntry reads all but the body, without checking the sum: at start, that would read every list from disk. What
// it returns decides only how soon a list is forgotten.
func readListEntry(key, record []byte) (listName, *listEntry, error) {
	id, rest, err := splitKey(key)
	if err != nil {
		return listName{}, nil, err
	}
	if len(record) < listHeader+sumSize || record[0] != recordVersion {
		return listName{}, nil, fmt.Errorf("%w: list of %d bytes", errDamaged, len(record))
	}
	entry := &listEntry{size: int64(len(record) - listHeader - sumSize)}
	entry.checkedAt = time.UnixMicro(int64(binary.LittleEndian.Uint64(record[1:])))
	return listName{id, string(rest)}, entry, nil
}

func readList(key, record []byte) (List, error) {
	payload, err := unseal(key, record)
	if err != nil {
		return List{}, err
	}
	if len(payload) < 8 {
		return List{}, fmt.Errorf("%w: list of %d bytes", errDamaged, len(payload))
	}
	return List{CheckedAt: time.UnixMicro(int64(binary.LittleEndian.Uint64(payload))), Body: bytes.Clone(payload[8:])}, nil
}
