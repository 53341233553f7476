/**
 * Runs before the install scripts of the packages that Overtone needs (npm: `preinstall`). That of onnxruntime-node
 * fetches CUDA libraries from outside npm: hundreds of megabytes that Overtone has no use for, and a failed installation
 * where that host is out of reach. It fetches nothing where files of their names are there, so empty ones are put there.
 * Whoever asks for them (`ONNXRUNTIME_NODE_INSTALL`, `--onnxruntime-node-install`) gets them all the same.
 */
import { existsSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"

try {
  const require = createRequire(import.meta.url)
  const root = dirname(require.resolve("onnxruntime-node/package.json"))
  const { requirements, manifests } = require(join(root, "script", "install-metadata.js"))
  const platform = `${process.platform}/${process.arch}`
  for (const name of requirements[platform] ?? []) {
    for (const file of Object.keys(manifests[`${platform}:${name}`] ?? {})) {
      const path = join(root, "bin", "napi-v6", platform, file)
      if (!existsSync(path)) writeFileSync(path, "")
    }
  }
} catch {
  // Another version, or another package manager's order: its script then does what it does.
}
