// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"tacit/identity"
)

// Info is a parsed body.
type Info struct {
	Value any
	Key   string         // the key that the record must have
	Sub   identity.KeyID // the public key that the body binds, if any
}

// Read parses a body. A strict one must be exactly what this version writes, so that
// a statement with an unknown field, which this version can't apply, is refused.
func Read[T any](raw json.RawMessage, strict bool, check func(T) (Info, error)) (Info, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return Info{}, err
	}
	var again any = raw
	if strict {
		again = v
	}
	text, err := json.Marshal(again)
	if err != nil {
		return Info{}, err
	}
	if !bytes.Equal(text, raw) {
		return Info{}, errors.New("not in the form that this version writes: an unknown field, or another encoding")
	}
	a, err := check(v)
	a.Value = v
	return a, err
}

// Info checks the form.
func (b Root) Info() (Info, error) {
	sub, err := CertificateKey(b.Certificate)
	return Info{Sub: sub}, err
}

// Info checks the form.
func (b Authority) Info() (Info, error) {
	sub, err := CertificateKey(b.Certificate)
	return Info{Key: string(b.Node), Sub: sub}, errors.Join(err, CheckNames(b.Node))
}

// Info checks the form.
func (b Operator) Info() (Info, error) {
	id, err := publicKey(b.Public)
	return Info{Key: id.String()}, errors.Join(err, CheckNames(b.Node))
}

// Info checks the form.
func (b Member) Info() (Info, error) {
	sub, err := publicKey(b.Public)
	return Info{Key: string(b.Node), Sub: sub}, errors.Join(err, CheckNames(b.Node))
}

// Info checks the form.
func (b Revocation) Info() (Info, error) {
	err := CheckText("reason", b.Reason, 1024)
	if b.Node != "" {
		err = errors.Join(err, CheckNames(b.Node))
	}
	return Info{Key: b.Public.String()}, err
}

// Info checks the form.
func (b Grant) Info() (Info, error) {
	return Info{Key: b.key()}, errors.Join(CheckNames(b.Node), CheckSource(b.Service), checkVouched(b.Outside))
}

func (b Grant) key() string { return string(b.Node) + "/" + string(b.Service) }

// Info checks the form.
func (b Node) Info() (Info, error) {
	err := errors.Join(CheckNames(b.Node), checkAddress(b.Address), CheckText("version", b.Version, 64), CheckText("zone", b.Zone, 64))
	for _, addr := range b.Also {
		err = errors.Join(err, checkAddress(addr))
	}
	if len(b.Also) > maxAddresses {
		err = errors.Join(err, fmt.Errorf("%d more addresses: at most %d", len(b.Also), maxAddresses))
	}
	if b.LanePort == 0 {
		err = errors.Join(err, errors.New("no lane port"))
	}
	return Info{Key: string(b.Node)}, err
}

// Info checks the form.
func (b Instance) Info() (Info, error) {
	errs := []error{CheckNames(b.Node), CheckSource(b.Service), b.checkIngress(), CheckID(b.ID), checkLists(b.Tags, b.Meta), CheckText("down", b.Down, 256), CheckText("place", b.Place, 256)}
	if b.Address != "" {
		errs = append(errs, checkAddress(b.Address))
	}
	if b.Weight < 0 || b.Weight > 65535 {
		errs = append(errs, fmt.Errorf("weight %d: use 0 to 65535", b.Weight))
	}
	errs = append(errs, CheckText("balance", b.Balance, 64), CheckText("retry", b.Retry, 64), b.Outside.check(b.Port))
	return Info{Key: string(b.Node) + "/" + b.ID}, errors.Join(errs...)
}

// Info checks the form.
func (b Floor) Info() (Info, error) { return Info{Key: string(b.Node)}, CheckNames(b.Node) }

// checkIngress: an ingress calls only, and nothing else has what it has.
func (b Instance) checkIngress() error {
	if b.Service.IsIngress() != (b.Ingress != nil) || b.Ingress != nil && b.Port != 0 {
		return fmt.Errorf("%s: an ingress, and nothing else, says where it listens, and has no port that others call", b.Service)
	}
	if b.Ingress == nil {
		return nil
	}
	return errors.Join(CheckText("listen", b.Ingress.Listen, 64), CheckNames(b.Ingress.Service))
}
