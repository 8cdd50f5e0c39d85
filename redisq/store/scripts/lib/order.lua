-- order: in which order candidates are read, and looked at.

-- Due ones are read in turn with the others: a backlog that uses up the bytes of every claim would keep them out. Gives
-- where each that is read is among the claim's candidates, and their ids.
local function in_turn(claim)
  local others, joining, turns, asked = {}, {}, {}, {}
  for i = 1, #claim.ids do table.insert(claim.sources[i] == 'due' and joining or others, i) end
  for n = 1, math.max(#others, #joining) do
    turns[#turns + 1] = others[n]
    turns[#turns + 1] = joining[n]
  end
  for n = 1, #turns do asked[n] = claim.ids[turns[n]] end
  return turns, asked
end

-- As they came, but a due one that has a priority before ready ones of a lower. Gives the ids of the due ones, too.
local function ordered(claim, turns, met)
  local found, hurry, due_ids = {}, false, {}
  for n = 1, met do
    local i = turns[n]
    found[n] = i
    if claim.sources[i] == 'due' then
      due_ids[#due_ids + 1] = claim.ids[i]
      hurry = hurry or claim.bodies[i] and priority_in(claim.bodies[i]) > 0
    end
  end
  table.sort(found)
  if not hurry then return found, due_ids end
  local order = {}
  for rank = 10, 0, -1 do
    for n = 1, #found do
      local i = found[n]
      local own = claim.sources[i] == 'lapsed' and 10 or claim.bodies[i] and priority_in(claim.bodies[i]) or 0
      if own == rank then order[#order + 1] = i end
    end
  end
  return order, due_ids
end
