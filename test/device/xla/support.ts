/** XLA's CPU plugin for tests: where it is installed (`exp device install cpu`); without it they are skipped, and say so. */

import { cpuPlugin, locatePlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"

const located = locatePlugin(cpuPlugin)

/** Why tests of XLA cannot run here; undefined where they can. */
export const absent = "missing" in located ? located.missing : undefined

/** What a suite is called: with the reason why it is skipped, if it is. */
export const titled = (title: string): string => (absent === undefined ? title : `${title} (skipped: ${absent})`)

/** The device, without a cache of executables. */
export const xlaCpu = XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true })
