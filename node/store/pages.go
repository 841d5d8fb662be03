// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
)

// What a bbolt file consists of. bbolt maps the file and trusts it: a page that is
// missing ends the process, and a page that contains itself fills the memory. So a
// file is read here first, from its bytes and with every bound checked.
const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSize    = 64
	headerSize  = 16 // of a page, of an element, and of a bucket
	branchPage  = 0x01
	leafPage    = 0x02
	freePage    = 0x10
	bucketFlag  = 0x01
	manyFree    = 0xFFFF
	noFreelist  = ^uint64(0)
)

var order = binary.LittleEndian

// meta is one of the two meta pages: where the tree of the last change begins, or
// of the one before.
type meta struct{ size, root, free, high, change uint64 }

func readMeta(data []byte, at int) (m meta, ok bool) {
	if at+headerSize+metaSize > len(data) {
		return m, false
	}
	b := data[at+headerSize:][:metaSize]
	h := fnv.New64a()
	_, _ = h.Write(b[:56])
	m = meta{uint64(order.Uint32(b[8:])), order.Uint64(b[16:]), order.Uint64(b[32:]), order.Uint64(b[40:]), order.Uint64(b[48:])}
	return m, order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion && order.Uint64(b[56:]) == h.Sum64() && m.size >= 512
}

// pages reads a file.
type pages struct {
	data []byte
	meta meta
	used map[uint64]bool // pages that were read
}

// element is one entry of a bucket.
type element struct {
	bucket     bool
	key, value []byte
}

// newPages finds the tree of the last change. whole is false where one of the meta
// pages is damaged: the tree may lack that change.
func newPages(data []byte) (p *pages, whole bool, err error) {
	m0, ok0 := readMeta(data, 0)
	size := os.Getpagesize() // bbolt's choice
	if ok0 {
		size = int(m0.size)
	}
	m1, ok1 := readMeta(data, size)
	switch {
	case !ok0 && !ok1:
		return nil, false, errors.New("both of its first pages are damaged")
	case !ok0 || ok1 && m1.change > m0.change:
		m0 = m1
	}
	return &pages{data: data, meta: m0, used: map[uint64]bool{}}, ok0 && ok1, nil
}

// page returns a page with those that continue it. No page is read twice.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.meta.high || p.used[id] || (id+1)*p.meta.size > uint64(len(p.data)) {
		return nil, fmt.Errorf("page %d isn't there", id)
	}
	at := id * p.meta.size
	head := p.data[at:][:headerSize]
	more := uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != id || id+more >= p.meta.high || (id+1+more)*p.meta.size > uint64(len(p.data)) {
		return nil, fmt.Errorf("page %d is damaged", id)
	}
	for n := range more + 1 {
		p.used[id+n] = true
	}
	return p.data[at:][:(more+1)*p.meta.size], nil
}

// walker reads the pages of one bucket, and checks the order of its keys: bbolt
// finds an entry by it.
type walker struct {
	p         *pages
	f         func(element)
	low, last []byte // the keys of the branch that leads here, and before
}

var errPage, errEntry = errors.New("a page is damaged"), errors.New("an entry is damaged")

// walk reads a page and those below it. What is sound is read even where other
// pages are damaged.
func (w *walker) walk(id uint64) error {
	b, err := w.p.page(id)
	if err != nil {
		return err
	}
	return w.elements(b, branchPage, leafPage)
}

func (w *walker) elements(b []byte, kinds ...uint16) error {
	kind, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if !slices.Contains(kinds, kind) || headerSize*(1+count) > len(b) {
		return errPage
	}
	var errs []error
	for i := range count {
		at := headerSize * (1 + i)
		if kind == branchPage {
			errs = append(errs, w.branch(b, at))
			continue
		}
		e, ok := leaf(b, at)
		if ok = ok && bytes.Compare(e.key, w.low) >= 0 && (w.last == nil || bytes.Compare(e.key, w.last) > 0); !ok {
			errs = append(errs, errEntry)
			continue
		}
		w.last = e.key
		w.f(e)
	}
	return errors.Join(errs...)
}

// branch reads what is below the element of a branch page.
func (w *walker) branch(b []byte, at int) error {
	from := uint64(at) + uint64(order.Uint32(b[at:]))
	end := from + uint64(order.Uint32(b[at+4:]))
	var err error
	if end > uint64(len(b)) || w.last != nil && bytes.Compare(b[from:end], w.last) <= 0 {
		err = errPage
	} else {
		w.low = b[from:end]
	}
	return errors.Join(err, w.walk(order.Uint64(b[at+8:])))
}

// leaf reads the element of a leaf page whose header is at a place.
func leaf(b []byte, at int) (e element, ok bool) {
	flags, from := order.Uint32(b[at:]), uint64(at)+uint64(order.Uint32(b[at+4:]))
	mid := from + uint64(order.Uint32(b[at+8:]))
	end := mid + uint64(order.Uint32(b[at+12:]))
	if flags > bucketFlag || end > uint64(len(b)) {
		return e, false
	}
	return element{flags == bucketFlag, b[from:mid], b[mid:end]}, true
}

// bucket calls f with the entries of a bucket, given its element. sum is what the
// bucket's sequence says.
func (p *pages) bucket(e element, f func(element)) (sum uint64, err error) {
	if len(e.value) < headerSize {
		return 0, errors.New("a bucket is damaged")
	}
	root, sum := order.Uint64(e.value), order.Uint64(e.value[8:])
	w := walker{p: p, f: f}
	if root != 0 {
		return sum, w.walk(root)
	}
	if len(e.value) < 2*headerSize {
		return sum, errors.New("a bucket is damaged")
	}
	return sum, w.elements(e.value[headerSize:], leafPage)
}

// free checks the list of free pages, once all others were read: bbolt would write
// over a page that is wrongly in it.
func (p *pages) free() error {
	damaged := errors.New("the list of free pages is damaged")
	if p.meta.free == noFreelist {
		return damaged // it would be made anew from the tree; a file of ours has one
	}
	b, err := p.page(p.meta.free)
	if err != nil || order.Uint16(b[8:]) != freePage {
		return damaged
	}
	count, ids := uint64(order.Uint16(b[10:])), b[headerSize:]
	if count == manyFree {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return damaged
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= p.meta.high || p.used[id] {
			return damaged
		}
		p.used[id] = true // none is in it twice
	}
	if uint64(len(p.used)) != p.meta.high-2 {
		return damaged // a page is neither free nor used
	}
	return nil
}
