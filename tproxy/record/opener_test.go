// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

const someSuite = tls.TLS_AES_128_GCM_SHA256

// violates checks an error of a peer's doing.
func violates(t *testing.T, err error, alert tls.AlertError, says string) {
	t.Helper()
	var v *Violation
	if !errors.As(err, &v) || v.Alert != alert || !strings.Contains(v.Error(), says) {
		t.Errorf("error %v, alert %v; not %q, %v", err, v, says, alert)
	}
}

func TestLength(t *testing.T) {
	for _, c := range []struct {
		header []byte
		n      int
		alert  tls.AlertError
		says   string
	}{
		{nil, 0, 0, ""},
		{[]byte{22, 0, 0, 0}, 0, 0, ""},
		{[]byte{23, 3, 3, 0, 17}, 22, 0, ""},
		{[]byte{23, 3, 3, 0x41, 0}, MaxRecord, 0, ""},
		{[]byte{23, 3, 3, 0, 17, 9, 9}, 22, 0, ""},
		{[]byte{23, 3, 3, 0x41, 1}, 0, alertRecordOverflow, "16641 bytes"},
		{[]byte{23, 3, 3, 0, 16}, 0, alertBadRecordMAC, "16 bytes"},
		{[]byte{23, 3, 1, 0, 17}, 0, alertProtocolVersion, "version 0x0301"},
		{[]byte{20, 3, 3, 0, 1}, 0, alertUnexpectedMessage, "type 20"}, // change_cipher_spec is for handshakes
		{[]byte{21, 3, 3, 0, 2}, 0, alertUnexpectedMessage, "type 21"}, // an alert that anybody can send
		{[]byte("GET /"), 0, alertUnexpectedMessage, "type 71"},
	} {
		n, err := Length(c.header)
		if n != c.n || (err == nil) != (c.says == "") {
			t.Errorf("% x: %d, %v", c.header, n, err)
		}
		if c.says != "" {
			violates(t, err, c.alert, c.says)
		}
	}
}

// TestControl is every record that carries no data, and what follows from it.
func TestControl(t *testing.T) {
	for name, c := range map[string]struct {
		typ     byte
		content []byte
		alert   tls.AlertError
		says    string
	}{
		"ticket":                     {typeHandshake, []byte{4, 0, 0, 1, 0}, alertUnexpectedMessage, "type 4"},
		"certificate request":        {typeHandshake, []byte{13, 0, 0, 1, 0}, alertUnexpectedMessage, "type 13"},
		"empty handshake message":    {typeHandshake, nil, alertUnexpectedMessage, "empty part"},
		"a part of a KeyUpdate":      {typeHandshake, []byte{24, 0, 0}, alertUnexpectedMessage, "isn't one message"},
		"KeyUpdate and more":         {typeHandshake, []byte{24, 0, 0, 1, 0, 24}, alertUnexpectedMessage, "isn't one message"},
		"two KeyUpdates":             {typeHandshake, []byte{24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, alertUnexpectedMessage, "isn't one message"},
		"KeyUpdate of another size":  {typeHandshake, []byte{24, 0, 0, 2, 0}, alertUnexpectedMessage, "isn't one message"},
		"KeyUpdate, unknown request": {typeHandshake, []byte{24, 0, 0, 1, 2}, alertIllegalParameter, "request 2"},
		"short alert":                {typeAlert, []byte{2}, alertDecodeError, "1 bytes"},
		"long alert":                 {typeAlert, []byte{2, 40, 0}, alertDecodeError, "3 bytes"},
		"change_cipher_spec":         {20, []byte{1}, alertUnexpectedMessage, "type 20"},
		"heartbeat":                  {24, []byte{1}, alertUnexpectedMessage, "type 24"},
		"padding only":               {0, make([]byte, 100), alertUnexpectedMessage, "nothing but padding"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := between(t, someSuite)
			_, err := b.Open(seal(t, &a.Sealer, c.typ, c.content...))
			violates(t, err, c.alert, c.says)
			if _, again := b.Open(seal(t, &a.Sealer, typeData, 1)); again != err {
				t.Errorf("afterwards: %v", again)
			}
		})
	}
}

// TestAlerts: the peer's, by their names. Only close_notify is a clean end.
func TestAlerts(t *testing.T) {
	for says, content := range map[string][]byte{
		"tls: handshake failure":   {2, 40},
		"tls: revoked certificate": {1, 44}, // the level counts for nothing
		"tls: bad record MAC":      {2, 20},
		"tls: alert(200)":          {2, 200},
	} {
		a, b := between(t, someSuite)
		_, err := b.Open(seal(t, &a.Sealer, typeAlert, content...))
		if err == nil || err.Error() != "the peer ended the connection: "+says || errors.Is(err, io.EOF) {
			t.Errorf("alert % d: %v", content, err)
		}
	}
	a, b := between(t, someSuite)
	if data, err := b.Open(seal(t, &a.Sealer, typeAlert, 1, 90)); data != nil || err != nil {
		t.Errorf("user_canceled: %v, %v", data, err)
	}
	for range 2 { // what comes after it is ignored
		if _, err := b.Open(seal(t, &a.Sealer, typeAlert, 2, 0)); err != io.EOF {
			t.Errorf("close_notify: %v", err)
		}
	}
}

// TestPadding: a peer may pad, up to the largest record.
func TestPadding(t *testing.T) {
	a, b := between(t, someSuite)
	for _, padding := range []int{0, 1, 1000, MaxPlaintext - 5} {
		inner := append([]byte("hello"), typeData)
		inner = append(inner, make([]byte, padding)...)
		data, err := b.Open(raw(&a.Sealer, inner))
		testhost.Must(t, err)
		same(t, "padded", data, []byte("hello"))
	}
	inner := append([]byte("hello"), typeData)
	_, err := b.Open(raw(&a.Sealer, append(inner, make([]byte, MaxPlaintext-4)...)))
	violates(t, err, alertRecordOverflow, "16386 bytes")
}

// raw seals what no Sealer would: any inner content, type and padding.
func raw(s *Sealer, inner []byte) []byte {
	n := len(inner) + tagSize
	header := []byte{typeData, 3, 3, byte(n >> 8), byte(n)}
	return s.keys.aead.Seal(header, s.keys.next(), inner, header)
}

// TestIdleRecords: a few records without data are allowed, a flood isn't.
func TestIdleRecords(t *testing.T) {
	for name, idle := range map[string]func(s *Sealer) []byte{
		"empty":         func(s *Sealer) []byte { return seal(t, s, typeData) },
		"user_canceled": func(s *Sealer) []byte { return seal(t, s, typeAlert, 1, 90) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := between(t, someSuite)
			for range 3 {
				for range idleLimit {
					data, err := b.Open(idle(&a.Sealer))
					testhost.Must(t, err)
					same(t, "no data", data, nil)
				}
				_, err := b.Open(seal(t, &a.Sealer, typeData, 1))
				testhost.Must(t, err)
			}
			for range idleLimit {
				_, err := b.Open(idle(&a.Sealer))
				testhost.Must(t, err)
			}
			_, err := b.Open(idle(&a.Sealer))
			violates(t, err, alertUnexpectedMessage, "17 records without data")
		})
	}
}

// TestUpdateFlood: a peer may change its key as often as its data need it, and no
// more: each costs this node as much as some 10 records.
func TestUpdateFlood(t *testing.T) {
	a, b := between(t, someSuite)
	update := func() error {
		buf := make([]byte, UpdateSize)
		_, err := a.update(buf, updateRequested)
		testhost.Must(t, err)
		_, err = b.Open(buf)
		return err
	}
	send := func(records int) {
		for range records {
			_, err := b.Open(seal(t, &a.Sealer, typeData, 1))
			testhost.Must(t, err)
		}
	}
	send(updateEvery) // earns nothing beyond the burst
	for range updateBurst {
		testhost.Must(t, update())
	}
	send(2 * updateEvery)
	testhost.Must(t, update())
	testhost.Must(t, update())
	send(updateEvery - 1)
	violates(t, update(), alertUnexpectedMessage, "too often")
}

// TestUpdateAsked: the answer to any number of requests is one update, which comes
// before the next data.
func TestUpdateAsked(t *testing.T) {
	a, b := between(t, someSuite)
	buf := make([]byte, 100)
	for range 3 {
		_, err := a.update(buf, updateRequested)
		testhost.Must(t, err)
		_, err = b.Open(buf[:UpdateSize])
		testhost.Must(t, err)
	}
	if _, err := b.Seal(buf, 1); err != ErrUpdate || !b.NeedUpdate() {
		t.Errorf("data before the update: %v", err)
	}
	n, err := b.Update(buf)
	testhost.Must(t, err)
	_, err = a.Open(buf[:n])
	testhost.Must(t, err)
	if b.NeedUpdate() || a.NeedUpdate() { // the answer doesn't ask
		t.Error("an update is due")
	}
	_, err = a.Open(seal(t, &b.Sealer, typeData, 7))
	testhost.Must(t, err)
}

// TestOtherOrder: records that are left out, repeated or exchanged aren't opened.
func TestOtherOrder(t *testing.T) {
	for name, order := range map[string][]int{"left out": {0, 2}, "repeated": {0, 0}, "exchanged": {1}} {
		a, b := between(t, someSuite)
		var records [][]byte
		for i := range 3 {
			records = append(records, seal(t, &a.Sealer, typeData, byte(i)))
		}
		var err error
		for _, i := range order {
			_, err = b.Open(bytes.Clone(records[i]))
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		violates(t, err, alertBadRecordMAC, "isn't authentic")
	}
}

// TestNumbersNeverWrap: a Sealer changes its key long before.
func TestNumbersNeverWrap(t *testing.T) {
	a, b := between(t, someSuite)
	a.Sealer.keys.seq, b.Opener.keys.seq = math.MaxUint64-1, math.MaxUint64-1
	_, err := b.Open(seal(t, &a.Sealer, typeData, 1))
	testhost.Must(t, err)
	_, err = b.Open(seal(t, &a.Sealer, typeData, 1))
	violates(t, err, alertInternalError, "used up")
}

// TestNotOneRecord: the caller must cut its buffer at records.
func TestNotOneRecord(t *testing.T) {
	a, b := between(t, someSuite)
	r := seal(t, &a.Sealer, typeData, 1, 2, 3)
	for _, part := range [][]byte{nil, r[:4], r[:len(r)-1], append(r, 0)} {
		_, b := between(t, someSuite)
		if _, err := b.Open(bytes.Clone(part)); err == nil || !strings.Contains(err.Error(), "aren't one record") {
			t.Errorf("%d bytes: %v", len(part), err)
		}
	}
	data, err := b.Open(r)
	testhost.Must(t, err)
	same(t, "data", data, []byte{1, 2, 3})
	if &data[0] != &r[HeaderSize] {
		t.Error("the data were copied")
	}
}
