package catalog

import (
	"bytes"
	"fmt"
)

// loader reads a file into the memory of a catalog that nobody else uses yet.
type loader struct {
	c       *Catalog
	numbers map[uint32]*repository
}

// load reads the whole file. When it returns errDamaged, memory holds what could be read: records have checksums, so what
// a damaged file still yields is true.
func (s *store) load(c *Catalog) error {
	l := loader{c: c, numbers: make(map[uint32]*repository)}
	err := s.inspect()
	for b, read := range [...]func(key, record []byte) error{
		repositoriesBucket: l.repository,
		tagsBucket:         l.tag,
		linksBucket:        l.link,
		listsBucket:        l.list,
	} {
		eachErr := s.each(bucket(b), func(key, record []byte) {
			if read(key, record) != nil {
				l.discard(bucket(b), key)
			}
		})
		if err == nil {
			err = eachErr
		}
	}
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	if n := len(c.garbage); n > 0 {
		c.log.Warn(fmt.Sprintf("%d damaged records in the catalog are removed; their names are learnt again", n))
	}
	return nil
}

// discard notes a damaged record for removal. Until that is done nobody may get its number.
func (l *loader) discard(b bucket, key []byte) {
	if number, _, err := splitKey(key); err == nil {
		l.c.numbers[number] = struct{}{}
	}
	l.c.garbage = append(l.c.garbage, deletion(b, bytes.Clone(key)))
}

func (l *loader) repository(key, record []byte) error {
	id, name, err := readRepository(key, record)
	if err != nil {
		return err
	}
	if l.c.repositories[name] != nil {
		return fmt.Errorf("%w: repository has two numbers", errDamaged)
	}
	r := newRepository(id, name)
	l.c.repositories[name], l.numbers[id] = r, r
	l.c.numbers[id] = struct{}{}
	return nil
}

// numbered returns the repository with that number.
func (l *loader) numbered(id uint32) (*repository, error) {
	r := l.numbers[id]
	if r == nil {
		return nil, fmt.Errorf("%w: no repository has the number %d", errDamaged, id)
	}
	return r, nil
}

func (l *loader) tag(key, record []byte) error {
	id, tag, t, err := readTag(key, record)
	if err != nil {
		return err
	}
	r, err := l.numbered(id)
	if err != nil {
		return err
	}
	t.Descriptor.MediaType = l.c.mediaTypes.shared(t.Descriptor.MediaType)
	r.tags[tag] = t
	return nil
}

func (l *loader) link(key, record []byte) error {
	id, d, link, err := readLink(key, record)
	if err != nil {
		return err
	}
	r, err := l.numbered(id)
	if err != nil {
		return err
	}
	r.links.Set(d, link.private(l.c.mediaTypes))
	return nil
}

func (l *loader) list(key, record []byte) error {
	name, entry, err := readListEntry(key, record)
	if err != nil {
		return err
	}
	if _, err := l.numbered(name.repository); err != nil {
		return err
	}
	l.c.lists.add(name, entry)
	return nil
}
