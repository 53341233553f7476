/**
 * Installs the plugin of the benchmark's device, as `exp device install` does, from what is at hand: wheels, or the
 * site-packages of an environment that has them. A command of its own, as a bundle has no `exp`.
 *
 *   node bench/gpu/install.ts cuda|cpu [DIR]
 */
import { installPlugin } from "../../src/device/xla/install/installPlugin.ts"
import { cpuPlugin, cudaPlugin } from "../../src/device/xla/plugins.ts"

const [device, from] = process.argv.slice(2)
const plugin = device === "cpu" ? cpuPlugin : cudaPlugin
try {
  const { folder, state } = await installPlugin(plugin, { from, say: (line) => console.error(line) })
  console.error(`${plugin.provider} ${plugin.version} ${state === "present" ? "is there" : "is installed"}: ${folder}`)
} catch (error) {
  console.error(`${plugin.provider}: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 2
}
