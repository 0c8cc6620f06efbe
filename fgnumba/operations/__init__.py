"""Operations on arrays with their JVPs, without a model."""
