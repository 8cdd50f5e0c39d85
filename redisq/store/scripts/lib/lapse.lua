-- lapse: what a lapsed lease means for its message. A worker that dies takes all its messages along, and only one of
-- them, if any, is to blame. Nobody is charged before that is known: the first time a message is under suspicion (1) and
-- shares its next worker with few other suspects, the second time (2) with none. Whichever then lapses again has done it
-- by itself: it is charged for this time and those before. A handler that returns or raises clears its message; one that
-- was handed back is under suspicion (1) still. New messages run beside suspects: two that both take workers down may
-- meet, and then the isolated one is charged for the other.
--
-- Gives the level of suspicion, the charge, and whether the message is dead. With max_lost 1 the first lapse is the end.
local function lapse(record, max_lost)
  if max_lost <= 1 then return 0, 1, true end
  local free = max_lost == 2 and 1 or 2
  if record.suspect < 2 then return free == 1 and 2 or record.suspect + 1, record.lost, false end
  local lost = math.max(record.lost, free) + 1
  return 2, lost, lost >= max_lost
end
