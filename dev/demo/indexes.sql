-- Keys, foreign keys, indexes and triggers of the demo, over the loaded rows.

ALTER TABLE public.airlines ADD PRIMARY KEY (carrier);
ALTER TABLE public.airports ADD PRIMARY KEY (faa);
ALTER TABLE public.planes ADD PRIMARY KEY (tailnum);
ALTER TABLE public.flights
    ADD PRIMARY KEY (flight_id),
    ADD UNIQUE (time_hour, carrier, flight);  -- serves reading by month as well
ALTER TABLE public.weather ADD PRIMARY KEY (origin, time_hour);

-- Only the references that the data keeps. The airports table lists no field in Puerto Rico or the
-- Virgin Islands, where 7,602 flights go, so dest has none. Two airlines report fleet numbers in
-- place of tail numbers (52,606 flights name a plane that is not in planes): tailnum is no reference.
ALTER TABLE public.flights
    ADD FOREIGN KEY (carrier) REFERENCES public.airlines,
    ADD FOREIGN KEY (origin) REFERENCES public.airports;
ALTER TABLE public.weather ADD FOREIGN KEY (origin) REFERENCES public.airports;

-- What the pipeline reads changes by: the cursor column, and the key to split ties.
CREATE INDEX ON public.airlines (updated_at, carrier);
CREATE INDEX ON public.airports (updated_at, faa);
CREATE INDEX ON public.planes (updated_at, tailnum);
CREATE INDEX ON public.flights (updated_at, flight_id);
CREATE INDEX ON public.weather (updated_at, origin, time_hour);

CREATE INDEX ON public.weather (time_hour);
CREATE INDEX ON public.flights (carrier);
CREATE INDEX ON public.flights (origin);
CREATE INDEX ON public.flights (dest);
CREATE INDEX ON public.flights (tailnum);

-- now() is the start of the transaction, as in most schemas: a row may thus become visible after
-- rows with a later updated_at. The pipeline must, and does, cope with that.
CREATE OR REPLACE FUNCTION public.nycflights13_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER touch BEFORE UPDATE ON public.airlines
    FOR EACH ROW EXECUTE FUNCTION public.nycflights13_touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.airports
    FOR EACH ROW EXECUTE FUNCTION public.nycflights13_touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.planes
    FOR EACH ROW EXECUTE FUNCTION public.nycflights13_touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.flights
    FOR EACH ROW EXECUTE FUNCTION public.nycflights13_touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.weather
    FOR EACH ROW EXECUTE FUNCTION public.nycflights13_touch();

ANALYZE public.airlines, public.airports, public.planes, public.flights, public.weather;
