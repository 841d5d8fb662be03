// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
)

// RestoreRoutes adds the plan's missing routes and rules and says whether there were any. It doesn't look at chains and
// starts no program, so it takes about a millisecond.
func RestoreRoutes(p Plan) (missing bool, err error) { return restoreRoutes(kernelHost{}, p) }

func restoreRoutes(h host, p Plan) (missing bool, err error) {
	var d difference
	if err := errors.Join(compareRoutes(&d, h, p), compareRules(&d, h, p)); err != nil {
		return false, err
	}
	for _, s := range d.missing {
		if err := s.do(); err != nil {
			return true, fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return len(d.missing) > 0, nil
}
