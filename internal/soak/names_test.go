// SPDX-License-Identifier: Apache-2.0

package soak

func names([]string) error { return nil }
