// SPDX-License-Identifier: Apache-2.0

package secrets

// Needed are the capabilities that Drop keeps.
const Needed = needed
