/** A plugin could not be installed; the message says what to do. */
export class InstallFailed extends Error {}
