/** The commands of `rcm`, in the order of `rcm --help`. A new one is a file and a line here. */

import { addConfigCheck } from "./config_check.ts";
import { addConfigPush } from "./config_push.ts";
import { addMembers } from "./members.ts";
import { addRecordCut } from "./record_cut.ts";
import { addRecordDump } from "./record_dump.ts";
import { addRecordVerify } from "./record_verify.ts";
import type { AddCommand } from "./shell.ts";
import { addStat } from "./stat.ts";
import { addTierForceLeader } from "./tier_force_leader.ts";

export const commands: readonly AddCommand[] = [
  addStat,
  addMembers,
  addTierForceLeader,
  addRecordDump,
  addRecordVerify,
  addRecordCut,
  addConfigCheck,
  addConfigPush,
];
